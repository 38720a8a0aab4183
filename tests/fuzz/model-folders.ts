import { readFileSync } from 'node:fs';
import { memoryStorage, PeftError } from '@peftjs/core';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import fc from 'fast-check';
import { edits, type Fields, type Json, type ModelFiles } from './model-edits.js';

const golden = new URL('../../packages/models/test/fixtures/tokenizers.json', import.meta.url);
const { tokenizers } = JSON.parse(readFileSync(golden, 'utf8')) as {
  tokenizers: Record<string, { definition: Fields }>;
};

const templates = [
  // ChatML
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  // with parts of Gemma's
  "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{{ '<turn>' + message.role + (first if loop.first else '') + message.content | trim + eos_token }}{% endfor %}",
] as const;

/** A decoder with a table for every id of these tokenizers. */
const config: Fields = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 512,
  hidden_size: 4,
  intermediate_size: 4,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
  eos_token_id: 1,
};

const tensor = (...shape: number[]): StoredTensor => {
  const data = new Float32Array(shape.reduce((size, axis) => size * axis, 1)).fill(0.1);
  return { dtype: 'F32', shape, data };
};
const linear = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'];
const weights = writeSafetensors(
  new Map<string, StoredTensor>([
    ['model.embed_tokens.weight', tensor(512, 4)],
    ...[...linear, 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'].map(
      (name) => [`model.layers.0.${name}.weight`, tensor(4, 4)] as const,
    ),
    ...['layers.0.input_layernorm', 'layers.0.post_attention_layernorm', 'norm'].map(
      (name) => [`model.${name}.weight`, tensor(4)] as const,
    ),
  ]),
  { format: 'pt' },
);

/** A folder of each kind of tokenizer, with the chat templates in turn. */
export const originals: readonly ModelFiles[] = Object.values(tokenizers).map(({ definition }, index) => {
  const special = { bos_token: '<s>', eos_token: { content: '</s>', special: true } };
  return {
    'config.json': config,
    'tokenizer.json': definition,
    'tokenizer_config.json': {
      ...special,
      chat_template: templates[index % templates.length] as string,
      model_max_length: 64,
    },
    'special_tokens_map.json': special,
    'generation_config.json': { eos_token_id: [1, 2] },
  };
});

/** Short texts, with runs on which a backtracking engine may take exponential time. */
const TEXTS = [
  '',
  'a',
  'Hello wor1d, "é" ½ 日本 <mask> NewWord\n',
  `${'a'.repeat(36)}!`,
  `x${' '.repeat(36)}y`,
  '\ufdfa '.repeat(9),
];

/** Whether a model is read and its tokenizer and template work, rather than being refused. @throws any other error. */
export async function using(files: ModelFiles): Promise<'read' | 'refused'> {
  const bytes = Object.entries(files).map(
    ([name, content]) => [`m/${name}`, new TextEncoder().encode(JSON.stringify(content))] as const,
  );
  const storage = memoryStorage(new Map<string, Uint8Array>([...bytes, ['m/model.safetensors', weights]]));
  try {
    tokenizing(await fromPretrained('m', { storage, task: 'causal-lm' }));
    return 'read';
  } catch (error) {
    if (error instanceof PeftError) return 'refused';
    throw error;
  }
}

function tokenizing({ tokenizer }: PretrainedModel): void {
  for (const text of TEXTS) {
    const { ids, spans = [] } = tokenizer.encode(text, 'and more', { spans: true });
    tokenizer.decode(ids);
    tokenizer.join(spans.flatMap((span) => span?.piece ?? []));
    tokenizer.encodeWords([text, 'word']);
  }
  tokenizer.decode(Array.from({ length: 512 }, (_, id) => id));
  const messages = TEXTS.map((content, turn) => ({ role: turn % 2 === 0 ? 'user' : 'assistant', content }) as const);
  tokenizer.chatTemplate?.render(messages, { addGenerationPrompt: true });
}

/** Folders with nested, repeated, swapped and hostile values. */
export const damagedFolders: fc.Arbitrary<ModelFiles> = fc
  .tuple(fc.constantFrom(...originals), fc.array(edits(), { minLength: 1, maxLength: 4 }))
  .map(([files, all]) =>
    all.reduce<ModelFiles>((now, edit) => {
      const next = edit(now);
      return isSmall(next) ? next : now;
    }, files),
  );

/** The maximum size of a folder's JSON: what needs long for a large file is not interesting. */
const MAX_SIZE = 1e5;

function isSmall(files: ModelFiles): boolean {
  let size = 0;
  const add = (value: Json): void => {
    if (size > MAX_SIZE) return;
    size += typeof value === 'string' ? value.length : 4;
    if (typeof value === 'object' && value !== null) Object.values(value).forEach(add);
  };
  add(files);
  return size <= MAX_SIZE;
}

/** The same folder for the same number and seed. */
export function folderNumber(number: number, seed: number): ModelFiles {
  const [files] = fc.sample(damagedFolders, { seed: seed * 1_000_003 + number, numRuns: 1 });
  return files as ModelFiles;
}
