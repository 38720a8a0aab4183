/** The byte-level tokenizers of a GGUF file, by the name of how they cut words: `tokenizer.ggml.pre`. */
import { fileError, shown } from '../json.js';
import { KNOWN_PATTERNS } from '../tokenizer-patterns.js';
import { metadataValue, type WithMetadata } from './config.js';
import { textsOf, type TokenizerParts, type Vocabulary } from './vocabulary.js';

/** What differs between byte-level tokenizers. */
export interface Cut {
  /** The steps before bytes become characters. */
  readonly steps: readonly object[];
  /** Whether that step cuts words itself, as in GPT-2. */
  readonly cutsWords: boolean;
  readonly normalizer?: object;
  /** Whether a word in the vocabulary is one token, whatever the merges. */
  readonly keepsWords?: boolean;
  /** Whether texts begin with the start token if the file does not say. */
  readonly begins?: boolean;
}

/** Cuts words with one pattern. */
function cut(pattern: string): Cut {
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
  return { steps: [split], cutsWords: false };
}

const gpt2: Cut = { steps: [], cutsWords: true };
const digits: Cut = { ...gpt2, steps: [{ type: 'Digits', individual_digits: true }] };
const qwen2 = cut(KNOWN_PATTERNS.qwen2);
const llama3: Cut = { ...cut(KNOWN_PATTERNS.llama3), keepsWords: true };
const gpt4o = cut(KNOWN_PATTERNS.gpt4o);

/** By `tokenizer.ggml.pre`. */
export const CUTS: Readonly<Record<string, Cut>> = {
  'gpt-2': gpt2,
  smollm: digits,
  refact: digits,
  starcoder: digits,
  qwen2: { ...qwen2, normalizer: { type: 'NFC' } },
  'deepseek-r1-qwen': qwen2,
  'llama-bpe': { ...llama3, begins: true },
  'llama-v3': { ...llama3, begins: true },
  'smaug-bpe': llama3, // also SmolLM3
  dbrx: llama3, // also OLMo 2 and Phi-4
  'gpt-4o': gpt4o, // also Phi-4 mini
  tekken: { ...cut(KNOWN_PATTERNS.tekken), keepsWords: true, begins: true },
};

/** Returns the parts of a byte-level tokenizer. @throws CheckpointError when its pattern is not known. */
export function byteLevelParts(file: WithMetadata, { ids, path }: Vocabulary): TokenizerParts {
  const name = metadataValue(file, 'tokenizer.ggml.pre');
  const own = typeof name === 'string' && Object.hasOwn(CUTS, name) ? CUTS[name] : undefined;
  if (!own) {
    const known = Object.keys(CUTS).join(', ');
    throw fileError(path, `'tokenizer.ggml.pre' is ${shown(name)}; known ones are ${known}`);
  }
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: own.cutsWords };
  return {
    normalizer: own.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...own.steps, bytes] },
    post_processor: bytes,
    decoder: bytes,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: own.keepsWords ?? false,
      vocab: ids,
      merges: textsOf(file, 'tokenizer.ggml.merges', path),
    },
    begins: own.begins ?? false,
  };
}
