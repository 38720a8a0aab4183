/** The files that sentence-transformers puts beside those of transformers: which modules follow the network, and how they are set. */
import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import type { ModelFolder } from '../folder.js';
import { encodeJson, field, shown } from '../json.js';
import type { Pooling, PoolingMode } from '../pooling.js';

const MODULES_FILE = 'modules.json';
const POOLING_FILE = '1_Pooling/config.json';
const LENGTH_FILE = 'sentence_bert_config.json';
const SETTINGS_BYTES = 2 ** 20;

/** What a folder of sentence-transformers says of embeddings. */
export interface EmbeddingSettings extends Pooling {
  /** Texts are cut there. */
  readonly maxTokens?: number;
}

/**
 * How the model of a folder embeds texts; undefined where it is none of sentence-transformers.
 * @throws UnsupportedError for modules other than a pooling and a normalisation after the network, naming them.
 * @throws CheckpointError for settings that are broken.
 */
export async function readEmbeddingSettings(folder: ModelFolder): Promise<EmbeddingSettings | undefined> {
  if (!(await folder.exists(MODULES_FILE))) return undefined;
  const file = folder.pathOf(MODULES_FILE);
  const modules = await folder.json(MODULES_FILE, SETTINGS_BYTES);
  if (!Array.isArray(modules)) throw new CheckpointError(`${file}: expected a list of modules`, file);
  const kinds = modules.map((module) => kindOf(module, file));
  if (!ORDERS.includes(kinds.join())) {
    const known = ORDERS.map((order) => order.replaceAll(',', ', ')).join('; or ');
    throw new UnsupportedError(`${file}: expected the modules ${known}; got ${kinds.join(', ')}`, file);
  }
  const maxTokens = await readLength(folder);
  return {
    pooling: await readPooling(folder, pathOf(modules[1], file)),
    normalize: kinds.includes('Normalize'),
    ...(maxTokens !== undefined && { maxTokens }),
  };
}

const ORDERS: readonly string[] = ['Transformer,Pooling', 'Transformer,Pooling,Normalize'];

/** The class of a module: the end of its path in Python, which versions move. */
function kindOf(module: unknown, file: string): string {
  const type = field(module, 'type');
  if (typeof type === 'string') return type.split('.').at(-1) ?? type;
  throw new CheckpointError(`${file}: expected modules with a 'type', got ${shown(module)}`, file);
}

/** The folder of a module, which is one inside. */
function pathOf(module: unknown, file: string): string {
  const path = field(module, 'path');
  if (typeof path === 'string' && /^[\w-]+$/.test(path)) return path;
  throw new CheckpointError(`${file}: expected the pooling's 'path' to be a folder here, got ${shown(path)}`, file);
}

const POOLED: Readonly<Record<string, PoolingMode>> = { mean: 'mean', cls: 'cls' };

/** Settings since version 6 name the mode; those before have a switch for each. */
async function readPooling(folder: ModelFolder, path: string): Promise<PoolingMode> {
  const name = `${path}/config.json`;
  const file = folder.pathOf(name);
  const settings = await folder.json(name, SETTINGS_BYTES);
  const switches = Object.entries(typeof settings === 'object' && settings !== null ? settings : {})
    .filter(([key, value]) => key.startsWith('pooling_mode_') && value === true)
    .map(([key]) => key.replace(/^pooling_mode_/, '').replace(/_tokens?$/, ''));
  const named = field(settings, 'pooling_mode');
  const modes: readonly unknown[] = named === undefined ? switches : [named].flat();
  const [mode] = modes;
  const known = modes.length === 1 && typeof mode === 'string' ? POOLED[mode] : undefined;
  if (known) return known;
  throw new UnsupportedError(
    `${file}: expected one pooling mode, mean or cls; got ${modes.join(', ') || 'none'}`,
    file,
  );
}

async function readLength(folder: ModelFolder): Promise<number | undefined> {
  if (!(await folder.exists(LENGTH_FILE))) return undefined;
  const length = field(await folder.json(LENGTH_FILE, SETTINGS_BYTES), 'max_seq_length');
  return Number.isInteger(length) && (length as number) > 0 ? (length as number) : undefined;
}

/** The files for a network that embeds in `width` numbers, as all versions of sentence-transformers read them, by name. */
export function embeddingFiles(
  { pooling, normalize }: Pooling,
  { width, maxTokens }: Readonly<Record<'width' | 'maxTokens', number>>,
): Map<string, Uint8Array> {
  const names = ['Transformer', 'Pooling', ...(normalize ? ['Normalize'] : [])];
  const modules = names.map((name, idx) => ({
    idx,
    name: String(idx),
    path: idx === 0 ? '' : `${idx}_${name}`,
    type: `sentence_transformers.models.${name}`,
  }));
  return new Map([
    [MODULES_FILE, encodeJson(modules)],
    [
      POOLING_FILE,
      encodeJson({
        word_embedding_dimension: width,
        pooling_mode_cls_token: pooling === 'cls',
        pooling_mode_mean_tokens: pooling === 'mean',
        pooling_mode_max_tokens: false,
        pooling_mode_mean_sqrt_len_tokens: false,
      }),
    ],
    [LENGTH_FILE, encodeJson({ max_seq_length: maxTokens, do_lower_case: false })],
  ]);
}
