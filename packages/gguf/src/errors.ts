/** A file, or what is to be written, violates the GGUF format or this package's limits. */
export class GgufError extends Error {
  /** The stable error code. */
  readonly code = 'PEFT_GGUF';
  /** The tensor, key or file with the error; undefined if unknown. */
  readonly path: string | undefined;

  constructor(message: string, path?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.path = path;
  }
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
