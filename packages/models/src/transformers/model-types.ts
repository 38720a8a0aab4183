import { bertType } from '../bert/model-type.js';
import { debertaV2Type } from '../deberta-v2/model-type.js';
import { distilbertType } from '../distilbert/model-type.js';
import { electraType } from '../electra/model-type.js';
import { gpt2Type } from '../gpt2/model-type.js';
import { llamaType } from '../llama/model-type.js';
import { qwen2Type } from '../qwen2/model-type.js';
import { robertaType } from '../roberta/model-type.js';
import type { ModelType } from './model-type.js';

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
