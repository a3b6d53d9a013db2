
acme01JD0000000000000000000001"n
s1
mx.example"	192.0.2.7(€€2out.acme.example:out.acme.exampleBTLS 1.3JTLS_AES_128_GCM_SHA256Xbacme*c
sender@acme.example)a@one.example"rfc822;a@one.exampleb@one.exampleQQ314159 (02m
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûŽˆ…«3:Received: here
Bm1@sender.exampleHÈ‘ˆ…«3PXb
spfpasshr01JD0000000000000000000000