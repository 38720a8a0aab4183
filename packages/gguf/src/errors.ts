import { FormatError } from '@peftjs/safetensors';

/** A file, or what is to be written, violates the GGUF format or this package's limits. */
export class GgufError extends FormatError {
  readonly code = 'PEFT_GGUF';
}
