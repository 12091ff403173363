"""The limits of an arm."""

import asyncio

from s2d_ray.serving.admission import Admission


async def test_the_time_to_come_again_grows_with_the_queue() -> None:
    admission, done = Admission(concurrent=2, queued=9, deadline_seconds=60), asyncio.Event()

    async def request() -> None:
        async with admission.admit():
            await done.wait()

    requests = [asyncio.create_task(request()) for _ in range(2)]
    await asyncio.sleep(0)
    # Nothing is known yet of how long a request takes: a second.
    assert (admission.answering, admission.waiting, admission.retry_after) == (2, 0, 1)
    requests += [asyncio.create_task(request()) for _ in range(7)]
    await asyncio.sleep(0)
    assert (admission.answering, admission.waiting, admission.retry_after) == (2, 7, 4)
    done.set()
    await asyncio.gather(*requests)
    assert (admission.answering, admission.waiting, admission.idle) == (0, 0, True)
