/** The exit code for each reason that ends a build early. */
export const EXIT_CODES = {
  /** The build itself failed, e.g. a wrong checksum or a compiler error. */
  failed: 1,
  /** The command line asks for something that does not exist. */
  usage: 2,
  /** This machine lacks something: a compiler, headers, disk space, the network. */
  missing: 3,
} as const;

/** An error that ends the build with one line: what was expected, what was found, what to do. */
export class BuildError extends Error {
  /** The reason, which decides the exit code. */
  constructor(
    readonly kind: keyof typeof EXIT_CODES,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
    this.name = 'BuildError';
  }
}
