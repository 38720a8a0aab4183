import { dirname } from 'node:path/posix';
import { defineConfig, type MarkdownRenderer } from 'vitepress';
import { apiContents, apiSidebars } from './api-contents.js';
import { typesetFormulas } from './formulas.js';
import { anchorOf, home, repository, siteLink } from './links.js';
import { writeLlms } from './llms.js';
import { sections } from './pages.js';
import { search } from './search.js';
import { vite } from './vite.js';

/** Rewrites the links of each page with `siteLink`, before VitePress checks them. */
function linkOut(md: MarkdownRenderer): void {
  md.core.ruler.push('link-out', (state) => {
    const { relativePath } = state.env as { readonly relativePath: string };
    for (const token of state.tokens.flatMap(({ children }) => children ?? [])) {
      const target = token.type === 'link_open' ? token.attrGet('href') : null;
      if (target !== null) token.attrSet('href', siteLink(relativePath, target));
    }
  });
}

const contents = sections().map(({ text, items }) => ({
  text,
  items: [...items],
  ...(text === 'API' && { collapsed: true }),
}));

/** The sections in the top bar, as many as fit on a tablet. The sidebar has every page. */
const bar = ['Guides', 'Methods', 'Benchmarks', 'Reference'];
const pages = contents.flatMap(({ text, items: [first] }) =>
  first && bar.includes(text) ? [{ text, link: first.link, activeMatch: `^${dirname(first.link)}/` }] : [],
);

export default defineConfig({
  lang: 'en',
  outDir: 'dist',
  title: 'peftjs',
  description: 'Parameter-efficient fine-tuning for TypeScript: LoRA, AdaLoRA and SoRA on TensorFlow.js',
  transformHead: ({ siteData: { base }, title, description }) => [
    ['link', { rel: 'icon', type: 'image/svg+xml', href: `${base}logo.svg` }],
    ['meta', { property: 'og:title', content: title }],
    ['meta', { property: 'og:description', content: description }],
    ['meta', { property: 'og:image', content: `${home}social.png` }], // rendered from images/social.svg
    ['meta', { name: 'twitter:card', content: 'summary_large_image' }],
  ],
  vite,
  metaChunk: true, // shared data such as the sidebars is loaded once
  sitemap: { hostname: home },
  buildEnd: writeLlms,
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' }, // the default misses AA contrast
    anchor: { slugify: anchorOf },
    config: (md) => {
      linkOut(md);
      typesetFormulas(md);
    },
  },
  themeConfig: {
    logo: '/logo.svg',
    nav: [...pages, { text: 'Live', link: '/live' }],
    sidebar: { ...apiSidebars(apiContents()), '/': contents },
    outline: { level: [2, 3] },
    search,
    socialLinks: [{ icon: 'github', link: repository }],
    editLink: { pattern: `${repository}/edit/main/docs/:path`, text: 'Edit this page' },
    footer: { message: 'Apache-2.0' },
  },
});
