// verify_mailauth.js NAMESERVER FILE...: one line of JSON per file, {"selector": "result"} of each DKIM signature,
// as mailauth finds it. Keys are asked of NAMESERVER (ADDRESS:PORT) alone.
'use strict';

const { readFileSync } = require('fs');
const { Resolver } = require('dns').promises;
const { dkimVerify } = require('mailauth/lib/dkim/verify');

const [nameserver, ...files] = process.argv.slice(2);
const dns = new Resolver();
dns.setServers([nameserver]);

async function main() {
    for (const file of files) {
        const { results } = await dkimVerify(readFileSync(file), { resolver: (name, type) => dns.resolve(name, type) });
        const found = results.map(each => [each.selector, each.status.result]);
        console.log(JSON.stringify(Object.fromEntries(found)));
    }
}

main();
