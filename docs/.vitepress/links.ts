import { dirname, join, normalize } from 'node:path/posix';

/** The address of the repository. */
export const repository = 'https://github.com/peftjs/peftjs';

/** The address of the site, published by .github/workflows/docs.yml. */
export const home = 'https://peftjs.github.io/peftjs/';

/** Returns GitHub's anchor of a heading, so that links to headings work in the repository and on the site. */
export function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

/** Returns a link of a page below docs for the site: links to other files lead to the repository. */
export function siteLink(page: string, target: string): string {
  const [path = '', anchor] = target.split('#');
  if (/^(?:[a-z]+:|\/|$)/i.test(path)) return target;
  const file = normalize(join('docs', dirname(page), path));
  if (file.startsWith('docs/') && file.endsWith('.md')) return target;
  return `${repository}/blob/main/${file}${anchor === undefined ? '' : `#${anchor}`}`;
}
