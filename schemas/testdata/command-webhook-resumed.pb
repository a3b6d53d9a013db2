ed*qstream²
crm8