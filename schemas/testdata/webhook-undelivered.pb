
D
crm

01JD.0.2.4"01JD€Žˆ…«3 €£ý¯«3((2503 Service Unavailable