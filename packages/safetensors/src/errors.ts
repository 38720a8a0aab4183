/** A file of tensors, or what is to be written, violates its format or the limits of its reader. */
export abstract class FormatError extends Error {
  /** The stable error code. */
  abstract readonly code: string;
  /** The tensor, key or file with the error; undefined if unknown. */
  readonly path: string | undefined;

  constructor(message: string, path?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.path = path;
  }
}

/** Makes the error of a format. */
export type Failure = new (message: string, path?: string, cause?: unknown) => FormatError;

/** A file, or tensors to write, violate the safetensors format or this package's limits. */
export class SafetensorsError extends FormatError {
  readonly code = 'PEFT_SAFETENSORS';
}

/** Adds the file's label to an error's message. `path` stays the tensor or key, if there is one. */
export function inFile(label: string | undefined, error: unknown): unknown {
  if (label === undefined || !(error instanceof FormatError)) return error;
  return new (error.constructor as Failure)(`${label}: ${error.message}`, error.path ?? label, error.cause);
}

const QUOTED_CHARACTERS = 80;

/** Quotes an untrusted text for a message: short, on one line, without control characters. */
export function quote(text: string): string {
  const short = text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text;
  return `'${short.replace(/\p{C}/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`)}'`;
}

/** Returns the message of a thrown value. */
export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
