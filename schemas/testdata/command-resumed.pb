"
acme*	root@host8€Žˆ…«3j
acme€Žˆ…«3