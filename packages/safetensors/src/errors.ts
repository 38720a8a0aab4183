/** A file, or the tensors meant for one, break the safetensors format or this reader's limits. */
export class SafetensorsError extends Error {
  readonly code = 'PEFT_SAFETENSORS';
  /** The tensor, key or file at fault. */
  readonly path: string | undefined;

  constructor(message: string, path?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.path = path;
  }
}

/** An error of a file whose label is known: the message says which file, `path` stays the tensor or key where there is one. */
export function inFile(label: string | undefined, error: unknown): unknown {
  if (label === undefined || !(error instanceof SafetensorsError)) return error;
  return new SafetensorsError(`${label}: ${error.message}`, error.path ?? label, error.cause);
}

const QUOTED_CHARACTERS = 80;

/** A text of unknown origin as a message may show it: short, on one line, without terminal control characters. */
export function quote(text: string): string {
  const short = text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text;
  return `'${short.replace(/\p{C}/gu, escaped)}'`;
}

/** The message of whatever was thrown. */
export function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function escaped(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
