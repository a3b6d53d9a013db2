
acmeç•ˆ…«3 È‘ˆ…«3*refused0:m
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûŽˆ…«3