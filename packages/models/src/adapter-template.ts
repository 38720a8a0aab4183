import { warnOnce } from '@peftjs/core/method';
import type { ChatTemplate } from './chat-template.js';
import { modelFolder, type Folder, type ModelFolder } from './folder.js';
import { field, shown } from './json.js';
import type { PretrainedModel } from './pretrained.js';
import { readChatTemplate, readTokenizerSettings, TOKENIZER_BYTES, TOKENIZER_FILE } from './transformers/tokenizer.js';

/**
 * Reads the chat template in an adapter's folder, where other trainers write the one that the adapter was trained with.
 * Undefined if there is none. The base model's tokenizer reads its texts, so there is a warning of a special token that
 * only the adapter's tokenizer has.
 * @throws CheckpointError for a template or settings that cannot be read.
 */
export async function readAdapterTemplate(
  { path, storage }: Folder,
  { sites, tokenizer }: Pick<PretrainedModel, 'sites' | 'tokenizer'>,
): Promise<ChatTemplate | undefined> {
  const folder = modelFolder(path, storage);
  const { bosTokenId, eosTokenId, specialTokens } = tokenizer;
  const named = (id?: number): string | undefined => [...specialTokens].find(([, own]) => own === id)?.[0];
  const ofBase = { bos_token: named(bosTokenId), eos_token: named(eosTokenId) };
  const settings = await readTokenizerSettings(folder);
  const chatTemplate = await readChatTemplate(folder, [...settings, ofBase]);
  if (!chatTemplate) return undefined;
  const rows = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? Infinity;
  // Tokens without a row in the table are left out of the base model's tokenizer too.
  const other = (await addedTokens(folder, settings[0])).find(
    ([id, token]) =>
      field(token, 'special') === true && id < rows && specialTokens.get(String(field(token, 'content'))) !== id,
  );
  if (other) {
    warnOnce(
      `the tokenizer in '${path}' has the special token ${shown(field(other[1], 'content'))}, which is none of that number in the base model's. The base model's is used here: merge the adapter where it was trained.`,
    );
  }
  return chatTemplate;
}

/** Returns the added tokens of a folder's tokenizer by their IDs; transformers 5 only has them in tokenizer.json. */
async function addedTokens(folder: ModelFolder, settings: unknown): Promise<(readonly [number, unknown])[]> {
  const inSettings = field(settings, 'added_tokens_decoder');
  if (inSettings !== undefined) return Object.entries(inSettings ?? {}).map(([id, token]) => [Number(id), token]);
  if (!(await folder.exists(TOKENIZER_FILE))) return [];
  const added = field(await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES), 'added_tokens');
  return Array.isArray(added) ? added.map((token: unknown) => [Number(field(token, 'id')), token]) : [];
}
