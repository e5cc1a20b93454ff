import asyncio
import time

import pytest

from pipcook_deploy.server.errors import OverloadedError
from pipcook_deploy.server.lag import CROWD, Lag

pytestmark = pytest.mark.alone


def test_a_loop_that_is_behind_refuses_and_one_that_caught_up_does_not():
    async def check():
        lag = Lag(0.02)
        asyncio.get_running_loop().call_soon(time.sleep, 0.05)
        lag.check(CROWD)
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            lag.check(CROWD)
        assert refused.value.status == 503 and refused.value.headers["retry_after"] == "1"
        await asyncio.sleep(0)
        lag.check(CROWD)
        await asyncio.sleep(0)
        assert lag.seconds < 0.02

    asyncio.run(check())


def test_few_requests_are_never_refused():
    async def check():
        lag = Lag(0.0)
        lag.check(CROWD)
        await asyncio.sleep(0)
        lag.check(CROWD - 1)
        assert lag.seconds == 0

    asyncio.run(check())
