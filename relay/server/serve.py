"""server.serve: `relay serve`: one worker in this process, or a supervisor with several.

Everything that can make a start unsafe or impossible is found here, before a socket is opened to clients, and ends
the start with an error that says what to do. `ready` is for the quick start, which sends its test message once mail
is taken.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from relay.config.consistency import streams
from relay.config.load import load
from relay.delivery.telling import Telling
from relay.log import Level, Log, Output, route_standard_logging
from relay.metrics import Metrics, merge, retired
from relay.server.alone import run_alone
from relay.server.ending import told
from relay.server.forked import run_forked
from relay.server.listeners import open_all
from relay.server.machine import raise_file_limit
from relay.server.memory import arrange_memory
from relay.server.notify import Notifier, inherited_sockets
from relay.server.patience import Patience
from relay.server.preflight import refuse_to_start
from relay.server.rates_keeper import RatesKeeper
from relay.server.remembering import Remembering, SavingBreakers
from relay.server.session_table import SessionTable
from relay.server.setting import Setting, workers_of
from relay.server.supervisor import Supervisor
from relay.server.switchboard import Switchboard
from relay.spool.lock import Lock

PORT_PATIENCE = 3.0  # seconds until the workers of a supervisor that was killed have let go of the ports


def serve(
    config_path: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    ready: Callable[[], None] = lambda: None,
    patience: Patience | None = None,
) -> int:
    """The exit code. Raises RelayError for what keeps the server from starting, or ends it."""
    setting = _set(config_path, environment)
    spool = setting.config.server.spool
    notifier = Notifier(environment, setting.log)
    keeper = RatesKeeper.load(spool, now=time.time, log=setting.log)
    remembering = Remembering(spool, setting.log)
    arrange_memory()
    try:
        if setting.workers > 1:
            return _supervised(
                setting,
                keeper=keeper,
                remembering=remembering,
                notifier=notifier,
                ready=ready,
                patience=patience or Patience(),
            )
        run_alone(
            setting,
            keeper=keeper,
            remembering=remembering,
            notifier=notifier,
            ready=ready,
            patience=patience or Patience(),
        )
    finally:
        keeper.save_at_the_end(spool, setting.log)
        setting.log.output.flush()
    return os.EX_OK


def _set(config_path: Path, environment: Mapping[str, str]) -> Setting:
    config = load(config_path, environment=environment)
    refuse_to_start(config)
    lock = Lock(config.server.spool / "lock")
    raise_file_limit()
    log = Log(Output(config.log.file), now=time.time, level=Level.named(config.log.level))
    route_standard_logging(log)
    count = workers_of(config)
    return Setting(
        config_path=config_path,
        environment=environment,
        config=config,
        listening=open_all(config, inherited_sockets(environment), patience=PORT_PATIENCE),
        workers=count,
        sessions=SessionTable(workers=count),
        log=log,
        lock=lock,
    )


def _supervised(
    setting: Setting,
    *,
    keeper: RatesKeeper,
    remembering: Remembering,
    notifier: Notifier,
    ready: Callable[[], None],
    patience: Patience,
) -> int:
    metrics = Metrics(streams=streams(setting.config))

    def remember() -> None:
        remembering.save(switchboard.taught())

    switchboard = Switchboard(
        rates=keeper.rates,
        sessions=setting.sessions,
        merge=merge,
        retire=retired,
        own_counts=metrics.snapshot,
        now=time.time,
        monotonic=time.monotonic,
        noted=SavingBreakers(Telling(setting.log, setting.site_log(now=time.time), time.monotonic), remember),
        before=remembering.before,
    )
    supervisor = Supervisor(
        setting,
        worker_main=lambda slot, ends: run_forked(setting, slot, ends, patience=patience),
        switchboard=switchboard,
        keeper=keeper,
        remember=remember,
        notifier=notifier,
        restarted=metrics.worker_restarted,
        ready=ready,
        patience=patience,
    )
    metrics.read_from({"relay_workers": supervisor.answering, "relay_breakers_open": lambda: switchboard.open_breakers})
    try:
        return supervisor.run()
    except BaseExceptionGroup as error:  # a bug of the supervisor's; its workers drain
        raise told(error, setting.log) from None
