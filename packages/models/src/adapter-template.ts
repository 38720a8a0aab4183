import type { Model } from '@peftjs/core';
import { warnOnce } from '@peftjs/core/method';
import { modelFolder, type Folder } from './folder.js';
import { field, listField, shown } from './json.js';
import type { Tokenizer } from './tokenizer.js';
import {
  readChatTemplate,
  readTokenizerSettings,
  TOKENIZER_BYTES,
  TOKENIZER_FILE,
  withinTable,
} from './transformers/tokenizer.js';

/**
 * Returns the base model's tokenizer with the chat template in an adapter's folder, where other trainers write the one
 * that the adapter was trained with. Without one, the tokenizer is returned as it is. A special token that only the
 * folder's own tokenizer has is told, because the base model's is used.
 * @throws CheckpointError for a template or settings that cannot be read.
 */
export async function withTemplateOf(
  { path, storage }: Folder,
  { sites }: Pick<Model, 'sites'>,
  tokenizer: Tokenizer,
): Promise<Tokenizer> {
  const folder = modelFolder(path, storage);
  const { bosTokenId, eosTokenId, specialTokens } = tokenizer;
  const named = (id?: number): string | undefined => [...specialTokens].find(([, own]) => own === id)?.[0];
  const ofBase = { bos_token: named(bosTokenId), eos_token: named(eosTokenId) };
  const chatTemplate = await readChatTemplate(folder, [...(await readTokenizerSettings(folder)), ofBase]);
  if (!chatTemplate) return tokenizer;
  if (await folder.exists(TOKENIZER_FILE)) {
    const file = folder.pathOf(TOKENIZER_FILE);
    const rows = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? Infinity;
    const definition = withinTable(await folder.json(TOKENIZER_FILE, TOKENIZER_BYTES), rows);
    const added = listField(definition, 'added_tokens', file);
    const special = added.filter((token) => field(token, 'special') === true);
    const other = special.find((token) => specialTokens.get(String(field(token, 'content'))) !== field(token, 'id'));
    if (other !== undefined) {
      warnOnce(
        `${file} has the special token ${shown(field(other, 'content'))}, unlike the base model's tokenizer, which is used: merge the adapter where it was trained`,
      );
    }
  }
  return { ...tokenizer, chatTemplate };
}
