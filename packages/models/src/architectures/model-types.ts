import type { ModelType } from '../transformers/config.js';
import { bertType } from './bert.js';
import { debertaV2Type } from './deberta-v2.js';
import { distilbertType } from './distilbert.js';
import { electraType } from './electra.js';
import { gpt2Type } from './gpt2.js';
import { llamaType } from './llama.js';
import { qwen2Type } from './qwen2.js';
import { robertaType } from './roberta.js';

/** Every `model_type` that is read. */
export const modelTypes: readonly ModelType[] = [
  bertType,
  distilbertType,
  robertaType,
  electraType,
  debertaV2Type,
  gpt2Type,
  llamaType,
  qwen2Type,
];
