#!/usr/bin/perl
# A QMAILQUEUE wrapper in Perl, in the manner of qmail-scanner: it cleans its
# environment, judges by a pattern, and runs qmail-queue on descriptors of its own.
use strict;
use warnings;

$ENV{PATH} = '/usr/bin:/bin';
delete @ENV{qw(IFS CDPATH ENV BASH_ENV)};
my $queue = $ENV{QMAILQUEUE} || '/var/qmail/bin/qmail-queue';

sub refuse {
    my ($code, $text) = @_;
    if (open(my $six, '>&=', 6)) { print $six $text; close $six; }
    exit $code;
}

local $/;
my $message = <STDIN>;
open(my $fd1, '<&=', 1) or exit 54;
my $envelope = <$fd1>;
exit 91 unless $envelope =~ /\AF[^\0]*\0(T[^\0]+\0)+\0\z/;

refuse(32, 'Dinfected with a test') if $message =~ /^Subject: bad indeed$/m;
refuse(82, 'Dno such content here (#5.7.1)') if $message =~ /^Subject: custom$/m;
refuse(82, 'Zcome back later (#4.3.0)') if $message =~ /^Subject: later$/m;

my ($head, $body) = split /\n\n/, $message, 2;
$head =~ s/^Subject: /Subject: [checked] /m;
$head .= "\nX-Qmail-Scanner: passed;\n\tby a test";

pipe(my $mr, my $mw) or exit 51;
pipe(my $er, my $ew) or exit 51;
my $pid = fork();
exit 51 unless defined $pid;
if (!$pid) {
    close $mw; close $ew;
    open(STDIN, '<&', $mr) or exit 54;
    require POSIX;
    POSIX::dup2(fileno($er), 1) or exit 54;
    exec $queue or exit 120;
}
close $mr; close $er;
print $mw $head, "\n\n", $body; close $mw;
print $ew $envelope; close $ew;
waitpid($pid, 0);
exit($? & 127 ? 81 : $? >> 8);
