"""Many questions at a time from one event loop.

python examples/async_predict.py ENDPOINT
"""

import asyncio
import sys

import corral


async def main(endpoint: str) -> None:
    texts = [f"my parcel number {number} has not arrived" for number in range(64)]
    async with corral.AsyncClient() as client:
        # Each is a request of its own; the server joins those that come together.
        predictions = await asyncio.gather(*(client.predict(endpoint, text) for text in texts))
        labels = {prediction.label for prediction in predictions}
        print(f"{len(predictions)} answers: {', '.join(sorted(map(str, labels)))}")

        # A long list goes in one call, in as many requests as it takes.
        whole = await client.predict(endpoint, texts * 40, top_k=2)
        print(f"{len(whole)} answers of {', '.join(whole.models)}")


asyncio.run(main(sys.argv[1]))
