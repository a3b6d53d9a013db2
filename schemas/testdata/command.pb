"
acmeone.example*	root@host2asked8€Žˆ…«3B
acme€Žˆ…«3