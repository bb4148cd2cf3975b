/** Why a file cannot be shown; the names are those of docs/format.md. */
export type ErrorKind = "NotSdcError" | "UnsupportedFileError" | "CorruptFileError" | "TruncatedFileError";

/** A file that is not an SDC file, is damaged, or is of a later version; the message is one sentence for people. */
export class SdcError extends Error {
  constructor(
    readonly kind: ErrorKind,
    message: string,
  ) {
    super(message);
    this.name = kind;
  }
}

export function corrupt(message: string): SdcError {
  return new SdcError("CorruptFileError", message);
}

export function unsupported(message: string): SdcError {
  return new SdcError("UnsupportedFileError", message);
}
