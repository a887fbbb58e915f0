"""How the page looks and answers to keys: readable in light and dark, by thumb and by keyboard. Nothing is fetched."""

# Enter searches, as in any search box; Shift+Enter begins another sentence. Before gradio, which has it otherwise.
HEAD = """<script>
document.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.isComposing || !event.target.matches('#text textarea')) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  const box = event.target;
  if (event.shiftKey) box.setRangeText('\\n', box.selectionStart, box.selectionEnd, 'end');
  box.dispatchEvent(new Event('input', {bubbles: true}));
  if (!event.shiftKey) setTimeout(() => document.querySelector('#go').click());
}, true);
</script>"""

# A hit is opened by the server, which alone may read its file. An answer below open filters is scrolled into view.
OPEN = """
new MutationObserver(() => {
  const below = element.getBoundingClientRect().top > 0.8 * innerHeight;
  if (below && element.innerText.trim()) element.scrollIntoView({block: 'start'});
}).observe(element, {childList: true, subtree: true});
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-rank]');
  if (button) trigger('click', {rank: Number(button.dataset.rank)});
});
"""
LARGE = """
let rank = null;
const dialog = () => element.querySelector('[role=dialog]');
const close = () => {
  props.value = '';
  const hit = document.querySelector(`#answer button[data-rank="${rank}"]`);
  if (hit) hit.focus();
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-rank]');
  if (button) trigger('click', {rank: Number(button.dataset.rank)});
  else if (event.target.closest('[data-close]') || event.target.classList.contains('large')) close();
});
document.addEventListener('keydown', event => {
  if (!dialog()) return;
  const step = {ArrowLeft: 'left', ArrowRight: 'right'}[event.key];
  if (event.key === 'Escape') close();
  else if (step) dialog().querySelector(`[data-step=${step}]:not(:disabled)`)?.click();
  else if (event.key === 'Tab') {  // the keys stay within
    const all = [...dialog().querySelectorAll('button:not(:disabled)')];
    const at = all.indexOf(document.activeElement), last = all.length - 1;
    const to = event.shiftKey ? (at <= 0 ? last : at - 1) : (at === last ? 0 : at + 1);
    all[to].focus();
  } else return;
  event.preventDefault();
}, true);
watch('value', () => {
  if (!dialog()) return;
  rank = dialog().dataset.rank;
  dialog().querySelector('[data-close]').focus();
});
"""

CSS = """
.gradio-container { --ps-text: #1b1f24; --ps-soft: #4a5160; --ps-panel: #eef1f5; --ps-line: #80889a; --ps-link: #1d4ed8;
  --ps-good: #1a7f37; --ps-bad: #a1260d; --ps-focus: #1d4ed8; --ps-back: #ffffff;
  max-width: 1280px !important; margin: auto; }
.dark .gradio-container, .gradio-container.dark { --ps-text: #eceef2; --ps-soft: #b6bdc9; --ps-panel: #23272f;
  --ps-line: #7d8698; --ps-link: #9dbcff; --ps-good: #5fd07a; --ps-bad: #ffb4a8;
  --ps-focus: #9dbcff; --ps-back: #111318; }
.gradio-container > .main { padding: 10px 20px !important; } .gradio-container main.contain { padding: 0 !important; }
.gradio-container .column, .gradio-container .row { gap: 10px !important; }
.gr-accordion { padding: 0 12px !important; }
.gr-accordion > button.label-wrap { align-items: center; }
.gr-accordion > [data-testid=accordion-content] { padding-bottom: 12px; }
.gradio-container button:not(.large button), .gradio-container input:not([type=checkbox]):not([type=file]),
.gradio-container .exports a, .gradio-container header a { min-height: 44px; }
.gradio-container button.label-wrap { min-height: 44px; }
.gradio-container input, .gradio-container textarea { font-size: 16px !important; }  /* smaller, and phones zoom in */
.gradio-container label:has(> input[type=checkbox]) { min-height: 44px; display: flex; align-items: center; }
.gradio-container input[type=checkbox] { width: 20px; height: 20px; }
.gradio-container :focus-visible { outline: 3px solid var(--ps-focus) !important; outline-offset: 2px; }
.gradio-container button:disabled { opacity: .6; }
#title header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 14px; color: var(--ps-text); }
#title h1 { font-size: 19px; margin: 0; color: var(--ps-text); }
#title p { margin: 0; font-size: 13px; color: var(--ps-soft); overflow-wrap: anywhere; flex: 1; min-width: 250px; }
#title b { color: var(--ps-text); }
#title a { color: var(--ps-link); display: inline-flex; align-items: center; }
.purpose, .purpose p { font-size: 13px !important; color: var(--ps-soft) !important; }
.answer { font: 15px/1.45 system-ui, sans-serif; color: var(--ps-text); }
.answer h2 { font-size: 16px; margin: 0 0 8px; color: var(--ps-text); overflow-wrap: anywhere; }
.answer ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(112px, 30%), 1fr)); gap: 12px;
  list-style: none; padding: 0; margin: 0 0 12px; }
.answer li { font-size: 12px; line-height: 1.35; overflow-wrap: anywhere; color: var(--ps-soft); }
.answer li.nothing { width: auto; font-size: 15px; }
.answer li b { font-size: 14px; color: var(--ps-text); }
.answer li button { display: flex; align-items: end; justify-content: center; width: 100%; height: 152px; padding: 0;
  border: 0; background: var(--ps-panel); border-radius: 4px; cursor: zoom-in; }
.answer li img { max-width: 100%; max-height: 152px; object-fit: contain; border-radius: 4px; }
.answer .passes button { outline: 3px solid var(--ps-good); }
.answer .none, .large .none { color: var(--ps-soft); padding: 8px; font-size: 12px; }
.answer p { margin: 6px 0; color: var(--ps-soft); font-size: 14px; }
.answer .verdict { padding: 8px 12px; border-radius: 6px; background: var(--ps-panel); color: var(--ps-text); }
.answer .error { padding: 10px 12px; border: 1px solid var(--ps-bad); border-radius: 6px; color: var(--ps-bad);
  font-size: 15px; overflow-wrap: anywhere; }
.answer table { border-collapse: collapse; font-size: 13px; margin: 8px 0; color: var(--ps-text); }
.answer td, .answer th { padding: 1px 16px 1px 0; border: none; font-weight: normal; text-align: left; }
.answer th { color: var(--ps-soft); } .answer td + td, .answer th + th { text-align: right; }
.exports a { color: var(--ps-link); display: inline-flex; align-items: center; justify-content: center; min-width: 64px;
  border: 1px solid var(--ps-line); border-radius: 6px; margin: 0 4px; text-decoration: none; }
body:has(.large) { overflow: hidden; }
.large { position: fixed; inset: 0; z-index: 1000; background: rgb(0 0 0 / .6); display: flex; flex-direction: column;
  align-items: center; justify-content: center; padding: 12px; font: 15px/1.45 system-ui, sans-serif; }
.large nav, .large .inside { background: var(--ps-back); color: var(--ps-text); width: min(1000px, 100%); }
.large nav { display: flex; gap: 8px; padding: 8px; border-radius: 8px 8px 0 0; }
.large nav [data-close] { margin-right: auto; }
.large button { min-height: 44px; min-width: 44px; padding: 0 14px; border-radius: 6px;
  border: 1px solid var(--ps-line); background: var(--ps-panel);
  color: var(--ps-text); font-size: 15px; cursor: pointer; }
.large .inside { display: flex; flex-wrap: wrap; gap: 16px; padding: 8px 16px 16px; overflow: auto;
  border-radius: 0 0 8px 8px; }
.large figure { margin: 0; flex: 0 1 auto; } .large figure img { max-height: min(72vh, 720px); max-width: 100%; }
.large .inside > div { flex: 1 1 260px; min-width: 0; }
.large h2 { font-size: 17px; margin: 0 0 8px; } .large h3 { font-size: 15px; margin: 14px 0 6px; }
.large h2, .large h3 { color: var(--ps-text); }
.large dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 14px; margin: 0; }
.large dt { color: var(--ps-soft); } .large dd { margin: 0; overflow-wrap: anywhere; color: var(--ps-text); }
.large ul { display: flex; flex-wrap: wrap; gap: 8px; list-style: none; padding: 0; margin: 0; }
.large li { font-size: 12px; color: var(--ps-soft); display: flex; flex-direction: column; align-items: center; }
.large li img { height: 96px; }
@media (max-width: 640px) { .gradio-container > .main { padding: 6px 8px !important; }
  .answer ol { gap: 8px; justify-content: space-between; } .answer h2 { margin-top: 2px; }
  .large { padding: 0; justify-content: flex-start; background: var(--ps-back); }
  .large nav { border-radius: 0; } .large figure img { max-height: 58vh; } .large .inside { flex: 1; } }
@media (prefers-reduced-motion: reduce) {
  .gradio-container * { transition: none !important; animation: none !important; } }
"""


def theme():
    """Fonts that every system has, and colours whose contrast is that of WCAG AA in light and dark."""
    import gradio as gr

    fonts = {'font': ('system-ui', 'sans-serif'), 'font_mono': ('ui-monospace', 'monospace')}
    named = {use: [gr.themes.Font(name) for name in names] for use, names in fonts.items()}
    names_of = {  # in light, in dark -> of what
        ('#ffffff', '#111318'): 'body_background_fill',
        ('#1b1f24', '#eceef2'): (
            'body_text_color block_title_text_color checkbox_label_text_color checkbox_label_text_color_selected '
            'button_secondary_text_color accordion_text_color'
        ),
        ('#4a5160', '#b6bdc9'): 'body_text_color_subdued block_info_text_color',
        ('#ffffff', '#1a1d23'): (
            'background_fill_primary block_background_fill block_label_background_fill input_background_fill '
            'checkbox_label_background_fill'
        ),
        ('#f5f7fa', '#16181d'): 'background_fill_secondary',
        ('#3a4150', '#d0d5de'): 'block_label_text_color',
        ('#80889a', '#7d8698'): 'input_border_color checkbox_border_color button_secondary_border_color',
        ('#5b6472', '#a9b1bd'): 'input_placeholder_color',
        ('#eef1f5', '#23272f'): 'checkbox_label_background_fill_hover',
        ('#e3ebff', '#26335a'): 'checkbox_label_background_fill_selected',
        ('#1d4ed8', '#2f5fe0'): 'button_primary_background_fill',
        ('#1a43b8', '#1d4ed8'): 'button_primary_background_fill_hover',
        ('#ffffff', '#ffffff'): 'button_primary_text_color button_cancel_text_color',
        ('#eef1f5', '#2a2f39'): 'button_secondary_background_fill',
        ('#dfe4ec', '#363c48'): 'button_secondary_background_fill_hover',
        ('#b42318', '#b42318'): 'button_cancel_background_fill',
        ('#8f1c13', '#8f1c13'): 'button_cancel_background_fill_hover',
        ('#1d4ed8', '#9dbcff'): 'link_text_color',
    }
    both = [(name, pair) for pair, names in names_of.items() for name in names.split()]
    colours = {name: light for name, (light, _) in both} | {f'{name}_dark': dark for name, (_, dark) in both}
    return gr.themes.Default(primary_hue='blue', neutral_hue='slate', **named).set(**colours)
