
01JD0000000000000000000001*acme2acmeBone.exampleZa@one.example(‚m
01JD0000000000000000000001qstream.content.default.v1"„0€ŸI: 0123456789abcdef0123456789abcdef@ûˆ…«3È‘ˆ…«3¨	øÈ‘ˆ…«3