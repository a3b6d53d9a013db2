
01JD0000000000000000000001 *acme2acme8Bspare.example:25JspareRsender@acme.exampleZ)a@one.example"rfc822;a@one.exampleZb@one.examplebQQ314159hpx‚m
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûˆ…«3ŠReceived: by mx.example
È‘ˆ…«3˜àÔ²Ã4.7.1
greylistedºmx1.one.exampleĞê<1@acme.example>‚n
s1
mx.example"	192.0.2.7(€€2out.acme.example:out.acme.exampleBTLS 1.3JTLS_AES_128_GCM_SHA256Xbacmeâspare