
 01JD0000000000000000000001.1.3.4è•ˆ…«3"01JD0000000000000000000001(0:acmeBacmeJone.exampleRacme-outXba@one.exampleú2.1.5okjmx1.one.exampler
192.0.2.25zTLS 1.3˜Ð-Údeliver