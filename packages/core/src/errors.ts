/** Every error that peftjs raises on purpose. `code` is stable; the message says what was expected, what came, what to do. */
export class PeftError extends Error {
  readonly code: string;
  /** The field, tensor, module or file at fault. */
  readonly path: string | undefined;

  constructor(code: string, message: string, at: { path?: string | undefined; cause?: unknown } = {}) {
    super(message, at.cause === undefined ? undefined : { cause: at.cause });
    this.name = new.target.name;
    this.code = code;
    this.path = at.path;
  }
}

/** A configuration field has an impossible value; `path` is the field. */
export class ConfigError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_CONFIG', message, { path, cause });
  }
}

/** `targetModules` matches nothing, or something that the method cannot adapt. */
export class TargetModuleError extends PeftError {
  constructor(message: string, path?: string) {
    super('PEFT_TARGET_MODULES', message, { path });
  }
}

/** A tensor has another shape or type than its place asks for. */
export class ShapeError extends PeftError {
  constructor(message: string, path?: string) {
    super('PEFT_SHAPE', message, { path });
  }
}

/** An adapter, model or training checkpoint is missing, broken or made for something else. */
export class CheckpointError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_CHECKPOINT', message, { path, cause });
  }
}

/** A data file is missing, empty or malformed. */
export class DataError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_DATA', message, { path, cause });
  }
}

/** The combination asked for does not exist. */
export class UnsupportedError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_UNSUPPORTED', message, { path, cause });
  }
}

/** Training cannot go on: the loss is not finite, or the controller broke its promise. */
export class TrainingError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_TRAINING', message, { path, cause });
  }
}

/** An executor or a backend failed, or cannot do what it was asked. */
export class EngineError extends PeftError {
  constructor(message: string, path?: string, cause?: unknown) {
    super('PEFT_ENGINE', message, { path, cause });
  }
}
