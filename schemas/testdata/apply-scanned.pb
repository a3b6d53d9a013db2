"!
scanstandardname: standard
R
acmedefault (€Žˆ…«30Z
acme