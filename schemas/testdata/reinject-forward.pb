
01JD000000000000000000000401JD0000000000000000000001 *abuse@acme.example2•€ŸI" 0123456789abcdef0123456789abcdefm
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûŽˆ…«3:X-Qstream-Forwarded: standard
Bacme`¢¨