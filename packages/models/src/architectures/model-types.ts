import type { ModelType } from '../transformers/config.js';
import { bertType, camembertType, distilbertType, electraType, robertaType, xlmRobertaType } from './bert.js';
import { debertaV2Type } from './deberta-v2.js';
import { gemma2Type, gemma3TextType, gemmaType } from './gemma.js';
import { gpt2Type } from './gpt2.js';
import { graniteType, llamaType, mistralType, olmo2Type, qwen2Type, qwen3Type } from './llama.js';
import { modernbertType } from './modernbert.js';
import { mpnetType } from './mpnet.js';
import { phi3Type } from './phi3.js';
import { smollm3Type } from './smollm3.js';

/** Every supported `model_type` of config.json. */
export const modelTypes: readonly ModelType[] = [
  bertType,
  distilbertType,
  robertaType,
  xlmRobertaType,
  camembertType,
  mpnetType,
  modernbertType,
  electraType,
  debertaV2Type,
  gpt2Type,
  llamaType,
  qwen2Type,
  qwen3Type,
  mistralType,
  smollm3Type,
  phi3Type,
  gemmaType,
  gemma2Type,
  gemma3TextType,
  olmo2Type,
  graniteType,
];
