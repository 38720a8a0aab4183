import { warnOnce } from '@peftjs/core/method';
import type { ChatTemplate } from './chat-template.js';
import { modelFolder, type Folder } from './folder.js';
import { field, shown } from './json.js';
import type { PretrainedModel } from './pretrained.js';
import { readChatTemplate, readTokenizerSettings, SETTINGS_FILE } from './transformers/tokenizer.js';

/**
 * Reads the chat template in an adapter's folder, where other trainers write the one that the adapter was trained with.
 * Undefined if there is none. Its texts are tokenised by the base model's tokenizer, so a special token that only the
 * adapter's has is told.
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
  const added = Object.entries(field(settings[0], 'added_tokens_decoder') ?? {}).map(([id, token]) => ({
    id: Number(id),
    content: String(field(token, 'content')),
    special: field(token, 'special'),
  }));
  // Tokens without a row in the table are left out of the base model's tokenizer too.
  const special = added.filter((token) => token.special === true && token.id < rows);
  const other = special.find(({ id, content }) => specialTokens.get(content) !== id);
  if (other !== undefined) {
    const file = folder.pathOf(SETTINGS_FILE);
    warnOnce(
      `\`${file}\` has the special token ${shown(other.content)}, which the base model's tokenizer lacks or numbers differently. The base model's is used here: merge the adapter where it was trained.`,
    );
  }
  return chatTemplate;
}
