/** What `sdc info` says of a file. */
import type { Decoded } from "../format/index.js";

const CHUNK_NAMES: Record<string, string> = {
  P: "payload",
  A: "alpha",
  e: "EXIF",
  f: "EXIF",
  i: "colour profile",
  j: "colour profile",
  x: "XMP",
  y: "XMP",
  d: "resolution",
};

export function factsOf(file: Decoded): [string, string][] {
  const { header, latents } = file;
  const bytes = (count: number): string => count.toLocaleString("en");
  const chunks = file.chunks.map(({ type, data }) => `${CHUNK_NAMES[type] ?? type} ${bytes(data.length)}`);
  const facts: [string, string][] = [
    ["size", `${header.width}×${header.height}, ${header.mode}`],
    [
      "file",
      `${bytes(file.size)} bytes, ${((8 * file.size) / (header.width * header.height)).toFixed(3)} bits per pixel`,
    ],
    ["codec", header.codec],
    ["chunks", chunks.join(", ")],
    ["noise", `variance ${latents.noiseVariance.toPrecision(3)}`],
    ["latents", `${latents.columns}×${latents.rows}×4, ${header.latentSpace}`],
  ];
  if (file.metadata.has("icc_profile")) facts.push(["colours", "of a profile, which is not applied here"]);
  return facts;
}
