/** The config.json of transformers for the metadata of a GGUF file. */
import type { GgufFile } from '@peftjs/gguf';
import { fileError, shown } from '../json.js';

/** Where a setting of config.json is in the metadata, below the name of the architecture. */
const SETTINGS: Readonly<Record<string, string>> = {
  block_count: 'num_hidden_layers',
  context_length: 'max_position_embeddings',
  embedding_length: 'hidden_size',
  feed_forward_length: 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
  'rope.freq_base': 'rope_theta',
};

/** Settings that say the same as another, if they have this value. Any other value is refused. */
const REPEATED: Readonly<Record<string, string>> = {
  vocab_size: 'vocab_size',
  'rope.dimension_count': 'head_dim',
  'attention.value_length': 'head_dim',
};

/** The architectures of llama.cpp that are read; transformers has the same names. */
const ARCHITECTURES: readonly string[] = ['llama', 'qwen2', 'qwen3'];

/** Returns a value of the metadata; undefined if it is missing. */
export function metadataValue(file: GgufFile, key: string): unknown {
  return file.metadata.get(key)?.value;
}

/** Returns the architecture. @throws CheckpointError when it is not read. */
export function architectureOf(file: GgufFile, path: string): string {
  const name = metadataValue(file, 'general.architecture');
  if (typeof name === 'string' && ARCHITECTURES.includes(name)) return name;
  throw fileError(
    path,
    `'general.architecture' is ${shown(name)}; known ones are ${ARCHITECTURES.join(', ')}; load the model's folder of transformers instead`,
  );
}

/**
 * Returns the settings of config.json.
 * @throws CheckpointError for an architecture or a setting that is not supported.
 */
export function configOf(file: GgufFile, path: string): Record<string, unknown> {
  const architecture = architectureOf(file, path);
  const own = `${architecture}.`;
  const keys = [...file.metadata.keys()].filter((key) => key.startsWith(own)).map((key) => key.slice(own.length));
  const given = keys.flatMap((key) => {
    const name = SETTINGS[key];
    return name === undefined ? [] : [[name, floatOf(metadataValue(file, own + key))] as const];
  });
  const [vocabularySize] = file.names.includes('token_embd.weight') ? file.spec('token_embd.weight').shape : [];
  const config: Record<string, unknown> = {
    model_type: architecture,
    vocab_size: vocabularySize,
    rope_theta: 10_000, // llama.cpp's default
    tie_word_embeddings: !file.names.includes('output.weight'),
    ...(architecture === 'llama' && { attention_bias: file.names.includes('blk.0.attn_q.bias') }),
    ...Object.fromEntries(given),
    ...tokenIds(file),
  };
  config['head_dim'] ??= Number(config['hidden_size']) / Number(config['num_attention_heads']);
  for (const key of keys) checkKey(own + key, { key, config, value: metadataValue(file, own + key), path });
  return config;
}

/** A float32 of the file as the shortest number that rounds to it, as config.json has it: 1e-5, not 9.99..e-6. */
function floatOf(value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
}

/** A setting of the file. */
interface Setting {
  readonly key: string;
  readonly value: unknown;
  readonly config: Readonly<Record<string, unknown>>;
  readonly path: string;
}

/** @throws CheckpointError for a setting that would change what the network computes. */
function checkKey(full: string, { key, value, config, path }: Setting): void {
  if (Object.hasOwn(SETTINGS, key)) return;
  const same = REPEATED[key];
  if (same !== undefined && value === config[same]) return;
  if (key === 'rope.scaling.type' && value === 'none') return;
  throw fileError(path, `'${full}' ${shown(String(value))} is not supported and may change the network's outputs`);
}

/** Returns the IDs of the special tokens, named as in config.json. */
function tokenIds(file: GgufFile): Record<string, unknown> {
  const ids = { bos_token_id: 'bos', eos_token_id: 'eos', pad_token_id: 'padding' };
  return Object.fromEntries(
    Object.entries(ids).flatMap(([name, key]) => {
      const id = metadataValue(file, `tokenizer.ggml.${key}_token_id`);
      return id === undefined ? [] : [[name, id]];
    }),
  );
}
