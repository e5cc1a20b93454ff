import signal

import pytest

from pipcook_deploy.cli.app import stop_on_sigterm


@pytest.fixture
def handlers():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_ends_like_ctrl_c(handlers, number):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_nohup_is_obeyed(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop_on_sigterm()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
