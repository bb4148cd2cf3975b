"""Fuzz with Atheris, which keeps the mutations that reach new code.

python fuzz/fuzz_with_atheris.py [CORPUS] [libFuzzer's options, for instance -runs=100000]
"""

import random
import sys
from collections import Counter

import atheris

with atheris.instrument_imports(include=["pillow_sdc"]):
    import fuzz_open


def main() -> None:
    fuzz_open.set_up()
    files, outcomes = fuzz_open.seeds(), Counter[str]()

    def damage(data: bytes, draw: random.Random) -> bytes:
        return bytes(atheris.Mutate(data, len(data) + 64))

    def mutate(file: bytes, max_size: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if len(file) < fuzz_open.container.HEADER_BYTES or draw.random() < 0.02:
            file = draw.choice(files)
        return fuzz_open.mutated(file, draw, damage)[:max_size]

    options = [option for option in sys.argv[1:] if not option.startswith("-max_len")]
    arguments = [sys.argv[0], f"-max_len={2 * fuzz_open.MAX_SEED_BYTES}", *options]
    atheris.Setup(arguments, lambda file: fuzz_open.check(file, outcomes), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
