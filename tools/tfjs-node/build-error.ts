/** How a build ends early; the command exits with the number. */
export const EXIT_CODES = {
  /** The build itself went wrong: another checksum, a compiler's error. */
  failed: 1,
  /** The command line asks for what there is not. */
  usage: 2,
  /** This machine lacks something: a compiler, headers, disk space, the network. */
  missing: 3,
} as const;

/** An early end, said in one line: what was expected, what there is, what to do. */
export class BuildError extends Error {
  constructor(
    readonly kind: keyof typeof EXIT_CODES,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
    this.name = 'BuildError';
  }
}
