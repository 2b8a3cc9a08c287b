// send_nodemailer.js: send one message with Nodemailer. The order comes as JSON on standard input (peers/clients.py).
'use strict';

const { readFileSync } = require('fs');
const nodemailer = require('nodemailer');

const order = JSON.parse(readFileSync(0, 'utf8'));

const transport = nodemailer.createTransport({
    host: order.host,
    port: order.port,
    secure: order.implicit,
    requireTLS: !order.implicit,
    auth: { user: order.login, pass: order.secret },
    tls: { ca: readFileSync(order.ca) },
});

transport
    .sendMail({
        from: { name: order.name, address: order.sender },
        to: order.to,
        cc: order.cc,
        bcc: order.bcc,
        subject: order.subject,
        text: order.text,
        attachments: [{ filename: order.attachment_name, path: order.attachment_path }],
    })
    .then(info => console.log(info.response));
