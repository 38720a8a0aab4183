import type { CheckpointFormat } from './checkpoint-format.js';
import { transformersFormat } from './transformers/checkpoint.js';
import { useLiteFormat } from './use-lite/checkpoint.js';

/** Every format, in the order in which a folder is held against them. */
export const formats: readonly CheckpointFormat[] = [useLiteFormat, transformersFormat];
