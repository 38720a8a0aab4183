import type { ModelType } from '../transformers/config.js';
import { bertType } from './bert.js';
import { debertaV2Type } from './deberta-v2.js';
import { distilbertType } from './distilbert.js';
import { electraType } from './electra.js';
import { gemmaType } from './gemma.js';
import { gemma2Type } from './gemma2.js';
import { gemma3TextType } from './gemma3.js';
import { gpt2Type } from './gpt2.js';
import { graniteType } from './granite.js';
import { llamaType } from './llama.js';
import { mistralType } from './mistral.js';
import { modernbertType } from './modernbert.js';
import { mpnetType } from './mpnet.js';
import { olmo2Type } from './olmo2.js';
import { phi3Type } from './phi3.js';
import { qwen2Type } from './qwen2.js';
import { qwen3Type } from './qwen3.js';
import { camembertType, robertaType, xlmRobertaType } from './roberta.js';
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
