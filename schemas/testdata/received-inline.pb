
01JD0000000000000000000001n
s1
mx.example"	192.0.2.7(ÄÄ2out.acme.example:out.acme.exampleBTLS 1.3JTLS_AES_128_GCM_SHA256Xbacmec
sender@acme.example)a@one.example"rfc822;a@one.exampleb@one.exampleQQ314159 (0"7" 0123456789abcdef0123456789abcdef
Subject: x

x
*Received: by mx.example
08êëàÖ´3B<1@acme.example>