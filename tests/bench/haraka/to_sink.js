// to_sink: takes mail from everybody for everybody, and sends all of it to the port of config/sink.port on loopback.
// What a relay behind its applications is set up to do, less its look-ups in DNS.

exports.register = function () {
    this.sink = { priority: 0, exchange: "127.0.0.1", port: Number(this.config.get("sink.port")) };
};

exports.hook_lookup_rdns = (next) => next(OK, "localhost");

exports.hook_connect = (next, connection) => {
    connection.relaying = true;
    next();
};

exports.hook_rcpt = (next) => next(OK);

exports.hook_get_mx = function (next) {
    next(OK, this.sink);
};
