import { PeftError } from '@peftjs/core';

/** What is known of a failure besides its message. */
interface HubFailure {
  readonly path?: string | undefined;
  readonly cause?: unknown;
  /** Of the answer, where there was one. */
  readonly status?: number | undefined;
  /** Nobody answered. */
  readonly isOffline?: boolean;
}

/** The Hugging Face hub gave no file: it refused, was out of reach, or what it sent is not what it promised. */
export class HubError extends PeftError {
  /** The HTTP status; undefined where the hub did not answer, or answered well and wrongly. */
  readonly status: number | undefined;
  /** Whether nobody answered, so that the same call may work with a network. */
  readonly isOffline: boolean;

  constructor(message: string, { path, cause, status, isOffline = false }: HubFailure = {}) {
    super('PEFT_HUB', message, { path, cause });
    this.status = status;
    this.isOffline = isOffline;
  }
}
