"""Helpers for tests of pages in a browser."""


def at_width(browser, width):
    """Gives the page this width in pixels, as on a screen or a telephone."""
    metrics = {
        "width": width,
        "height": 800,
        "deviceScaleFactor": 1,
        "mobile": width < 600,
    }
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
