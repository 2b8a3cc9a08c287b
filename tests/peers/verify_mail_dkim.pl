# verify_mail_dkim.pl NAMESERVER FILE...: one line of JSON per file, {"selector": "result"} of each DKIM signature that
# Mail::DKIM can check (RSA), as it finds it. Keys are asked of NAMESERVER (ADDRESS:PORT) alone.
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS;

my ($nameserver, @files) = @ARGV;
my ($address, $port) = $nameserver =~ /^(.+):(\d+)$/ or die "no ADDRESS:PORT: $nameserver\n";
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$address], port => $port, recurse => 0));

for my $file (@files) {
    my $verifier = Mail::DKIM::Verifier->new();
    open my $message, '<:raw', $file or die "$file: $!\n";
    while (my $line = <$message>) {
        $line =~ s/\r?\n\z/\r\n/;
        $verifier->PRINT($line);
    }
    $verifier->CLOSE;
    my %found = map { $_->selector => $_->result } grep { $_->algorithm =~ /^rsa/ } $verifier->signatures;
    print encode_json(\%found), "\n";
}
