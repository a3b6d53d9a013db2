*	root@host2	lost some¢crm¨€Ì°Õª3²,
crm€ŠÙ¥ª3	root@host"moves(€Žˆ…«30€Ì°Õª3