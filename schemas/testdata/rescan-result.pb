
01J0000000000000000000000J$
01J00000000000000000000000*acme(€Ð•ÿ¼1B5
badpmalware"
quarantine*Eicar-Test-Signature0