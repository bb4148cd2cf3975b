/** Every golden file, sound and damaged: the results of the Python package, which are those of the specification. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { crc32 } from "../src/format/crc32.js";
import { decode, readNetwork, SdcError } from "../src/format/index.js";
import { STEP } from "../src/format/latents.js";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const GOLDEN = join(ROOT, "tests", "golden");
const NETWORK = readNetwork(readFileSync(join(ROOT, "pillow_sdc", "format", "context", "networks", "1.npz")));

interface Expected {
  readonly width: number;
  readonly height: number;
  readonly mode: string;
  readonly codec: string;
  readonly latent_space: string;
  readonly chunks: string;
  readonly size: number;
  readonly noise_variance: string;
  readonly metadata_sha256: Record<string, string>;
  readonly latents_sha256?: string;
  readonly levels_sha256?: string;
  readonly alpha_sha256?: string;
}

function expectations<Value>(folder: string): [string, Value][] {
  return Object.entries(JSON.parse(readFileSync(join(folder, "expected.json"), "utf-8")) as Record<string, Value>);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

for (const [name, expected] of expectations<Expected>(GOLDEN)) {
  test(`${name} has the latents, the alpha and the metadata that it should have`, () => {
    const found = decode(readFileSync(join(GOLDEN, `${name}.sdc`)), NETWORK);
    const { width, height, mode, codec, latentSpace } = found.header;
    assert.deepEqual(
      [width, height, mode, codec, latentSpace, found.size],
      [expected.width, expected.height, expected.mode, expected.codec, expected.latent_space, expected.size],
    );
    assert.equal(found.chunks.map((chunk) => chunk.type).join(""), expected.chunks);
    const metadata = Object.fromEntries([...found.metadata].map(([key, bytes]) => [key, sha256(bytes)]));
    assert.deepEqual(metadata, expected.metadata_sha256);
    const { values, noiseVariance } = found.latents;
    assert.equal(noiseVariance, Number(expected.noise_variance));
    if (expected.latents_sha256 !== undefined) {
      assert.equal(sha256(new Uint8Array(values.buffer)), expected.latents_sha256);
    } else {
      assert.equal(
        sha256(Uint8Array.from(values, (value) => Math.round(value / STEP + 127.5))),
        expected.levels_sha256,
      );
    }
    assert.equal(found.alphaPlane && sha256(found.alphaPlane), expected.alpha_sha256 ?? null);
  });
}

test("the largest header is refused before memory is taken", () => {
  const file = readFileSync(join(GOLDEN, "context-rgb-1x1.sdc"));
  file.fill(0xff, 11, 15);
  file.writeUInt32LE(crc32(file.subarray(0, 15)), 15);
  const before = process.memoryUsage().arrayBuffers;
  assert.throws(
    () => decode(file, NETWORK),
    (error) => error instanceof SdcError && error.message.includes("65535×65535"),
  );
  assert.ok(process.memoryUsage().arrayBuffers < before + 1e6);
});

test("no prefix of a file is a file", () => {
  for (const name of ["context-rgba-disc", "palette-rgb-metadata", "uint8-la-steps"]) {
    const file = readFileSync(join(GOLDEN, `${name}.sdc`));
    for (let length = 0; length < file.length; length++) {
      const kinds = length < 7 ? ["NotSdcError"] : ["TruncatedFileError"];
      assert.throws(
        () => decode(file.subarray(0, length), NETWORK),
        (error) => error instanceof SdcError && kinds.includes(error.kind),
      );
    }
  }
});

test("a payload with any bit flipped is refused or decoded, and of context none is another's", () => {
  for (const name of ["context-rgb-9x9", "palette-rgb-16-entries", "uint8-la-steps", "context-rgb-finest"]) {
    const file = readFileSync(join(GOLDEN, `${name}.sdc`));
    const { payload, latents } = decode(file, NETWORK);
    const start = payload.byteOffset - file.byteOffset;
    const chunk = start - (payload.length < 128 ? 2 : payload.length < 16384 ? 3 : 4);
    for (let bit = 0; bit < 8 * Math.min(payload.length, 60); bit++) {
      const damaged = Buffer.from(file);
      damaged[start + (bit >> 3)]! ^= 1 << (bit & 7);
      damaged.writeUInt32LE(crc32(damaged.subarray(chunk, start + payload.length)), start + payload.length);
      try {
        const other = decode(damaged, NETWORK).latents;
        // Deflate streams may differ in the bits that fill their last byte.
        if (name.startsWith("context"))
          assert.notDeepEqual([other.values, other.noiseVariance], [latents.values, latents.noiseVariance]);
      } catch (error) {
        assert.ok(error instanceof SdcError && error.kind !== "NotSdcError", String(error));
      }
    }
  }
});

for (const [name, expected] of expectations<{ error: string }>(join(GOLDEN, "damaged"))) {
  test(`${name} is refused`, () => {
    const file = readFileSync(join(GOLDEN, "damaged", `${name}.sdc`));
    assert.throws(
      () => decode(file, NETWORK),
      (error) => error instanceof SdcError && error.kind === expected.error,
    );
  });
}
