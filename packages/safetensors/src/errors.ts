/** A file, or tensors to write, violate the safetensors format or this package's limits. */
export class SafetensorsError extends Error {
  /** The stable error code. */
  readonly code = 'PEFT_SAFETENSORS';
  /** The tensor, key or file with the error; undefined if unknown. */
  readonly path: string | undefined;

  constructor(message: string, path?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.path = path;
  }
}

/** Adds the file's label to an error's message. `path` stays the tensor or key, if there is one. */
export function inFile(label: string | undefined, error: unknown): unknown {
  if (label === undefined || !(error instanceof SafetensorsError)) return error;
  return new SafetensorsError(`${label}: ${error.message}`, error.path ?? label, error.cause);
}

const QUOTED_CHARACTERS = 80;

/** Quotes an untrusted text for a message: short, on one line, without control characters. */
export function quote(text: string): string {
  const short = text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text;
  return `'${short.replace(/\p{C}/gu, escaped)}'`;
}

/** Returns the message of a thrown value. */
export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
