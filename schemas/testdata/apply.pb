"
queueacmename: acme
*	root@host2first8€Žˆ…«3@ÿÿÿÿÿÿÿÿÿJ
acme