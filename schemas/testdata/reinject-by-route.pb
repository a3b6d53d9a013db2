
01JD000000000000000000000501JD0000000000000000000001*c
sender@acme.example)a@one.example"rfc822;a@one.exampleb@one.exampleQQ314159 (02om
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûŽˆ…«3Bacme`‚n
s1
mx.example"	192.0.2.7(€€2out.acme.example:out.acme.exampleBTLS 1.3JTLS_AES_128_GCM_SHA256XbacmeÂspare