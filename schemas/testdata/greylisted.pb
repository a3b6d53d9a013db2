
192.0.2.0/24sender@acme.examplea@one.example €Žˆ…«3(àµš…«30