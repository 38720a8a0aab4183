/** The tokenizer's files of transformers for the metadata of a GGUF file. */
import type { GgufFile } from '@peftjs/gguf';
import { fileError, shown } from '../json.js';
import { KNOWN_PATTERNS } from '../tokenizer-patterns.js';
import { metadataValue } from './config.js';

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

const split = (pattern: string): object => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});

const digits: Cut = { steps: [{ type: 'Digits', individual_digits: true }], cutsWords: true };

/** By `tokenizer.ggml.pre`. */
export const CUTS: Readonly<Record<string, Cut>> = {
  'gpt-2': { steps: [], cutsWords: true },
  smollm: digits,
  refact: digits,
  starcoder: digits,
  qwen2: { steps: [split(KNOWN_PATTERNS.qwen2)], cutsWords: false, normalizer: { type: 'NFC' } },
  'llama-bpe': { steps: [split(KNOWN_PATTERNS.llama3)], cutsWords: false, keepsWords: true, begins: true },
};

/** The kinds of tokens in `tokenizer.ggml.token_type`. */
export const [NORMAL, CONTROL, USER_DEFINED, UNUSED] = [1, 3, 4, 5];

/**
 * Returns tokenizer.json and tokenizer_config.json.
 * @throws CheckpointError for a tokenizer that is not byte-level or whose pattern is not known.
 */
export function tokenizerFilesOf(file: GgufFile, path: string): Record<string, unknown> {
  const cut = cutOf(file, path);
  const [tokens, merges] = ['tokens', 'merges'].map((name) => listOf(file, `tokenizer.ggml.${name}`, path)) as [
    readonly string[],
    readonly string[],
  ];
  const kinds = (metadataValue(file, 'tokenizer.ggml.token_type') ?? []) as ArrayLike<unknown>;
  const isUsed = (_: unknown, id: number): boolean => kinds[id] !== UNUSED;
  const vocabulary = Object.fromEntries(tokens.map((token, id) => [token, id] as const).filter(isUsed));
  const added = tokens.flatMap((content, id) => {
    const special = kinds[id] === CONTROL;
    if (!special && kinds[id] !== USER_DEFINED) return [];
    return [{ id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false }];
  });
  const special = specialTokens(file, tokens);
  const bos = (metadataValue(file, 'tokenizer.ggml.add_bos_token') ?? cut.begins) === true && special['bos_token'];
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: cut.cutsWords };
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: cut.normalizer ?? null,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [...cut.steps, bytes] },
      post_processor: bos ? beginning(bos, tokens.indexOf(bos)) : bytes,
      decoder: bytes,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: cut.keepsWords ?? false,
        vocab: vocabulary,
        merges,
      },
    },
    'tokenizer_config.json': {
      ...special,
      model_input_names: ['input_ids', 'attention_mask'],
      chat_template: metadataValue(file, 'tokenizer.chat_template'),
    },
  };
}

function cutOf(file: GgufFile, path: string): Cut {
  const model = metadataValue(file, 'tokenizer.ggml.model');
  if (model !== 'gpt2') {
    throw fileError(
      path,
      `'tokenizer.ggml.model' is ${shown(model)}, only "gpt2" is read; load the model's folder of transformers instead`,
    );
  }
  const name = metadataValue(file, 'tokenizer.ggml.pre');
  const cut = typeof name === 'string' && Object.hasOwn(CUTS, name) ? CUTS[name] : undefined;
  if (cut) return cut;
  const known = Object.keys(CUTS).join(', ');
  throw fileError(path, `'tokenizer.ggml.pre' is ${shown(name)}; known ones are ${known}`);
}

function listOf(file: GgufFile, key: string, path: string): readonly string[] {
  const entry = file.metadata.get(key);
  if (entry?.type === 'array' && entry.of === 'string') return entry.value;
  throw fileError(path, `'${key}' must be a list of strings`);
}

/** What the special tokens of transformers are called in `tokenizer.ggml.*_token_id`. */
export const SPECIAL_TOKENS = {
  bos_token: 'bos',
  eos_token: 'eos',
  unk_token: 'unknown',
  pad_token: 'padding',
} as const;

/** Returns the special tokens by their names in transformers. */
function specialTokens(file: GgufFile, tokens: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(SPECIAL_TOKENS).flatMap(([name, key]) => {
      const token = tokens[metadataValue(file, `tokenizer.ggml.${key}_token_id`) as number];
      return token === undefined ? [] : [[name, token]];
    }),
  );
}

/** Returns the step that puts the start token before each text. */
function beginning(token: string, id: number): object {
  const [start, [a, b]] = [
    { SpecialToken: { id: token, type_id: 0 } },
    [0, 1].map((type) => ({ Sequence: { id: type === 0 ? 'A' : 'B', type_id: 0 } })),
  ] as const;
  return {
    type: 'TemplateProcessing',
    single: [start, a],
    pair: [start, a, start, b],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
